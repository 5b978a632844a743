// SPDX-License-Identifier: Apache-2.0

// The target of the grpc-go pair (see agent.go): each Data stream becomes a TCP connection to the backend.
package main

import (
	"flag"
	"io"
	"log"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	pb "bench/ktbgp"
)

const chunk = 32 << 10

type proxy struct {
	pb.UnimplementedProxyServiceServer
	backend string
}

// One session. It ends when the backend has ended the way down; an error on either way ends both.
func (p *proxy) Data(stream pb.ProxyService_DataServer) error {
	conn, err := net.Dial("tcp", p.backend)
	if err != nil {
		return err
	}
	defer conn.Close()
	go func() {
		for {
			message, err := stream.Recv()
			if err == io.EOF {
				conn.(*net.TCPConn).CloseWrite()
				return
			}
			if err != nil {
				conn.Close()
				return
			}
			for _, piece := range message.Data {
				if _, err := conn.Write(piece); err != nil {
					conn.Close()
					return
				}
			}
		}
	}()
	buffer := make([]byte, chunk)
	for {
		n, err := conn.Read(buffer)
		if n > 0 {
			if err := stream.Send(&pb.DataResponse{Data: [][]byte{buffer[:n]}}); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func main() {
	listen := flag.String("listen", "", "HOST:PORT for agents")
	backend := flag.String("backend", "", "HOST:PORT that sessions go to")
	cert := flag.String("cert", "", "certificate (PEM)")
	key := flag.String("key", "", "its key (PEM)")
	flag.Parse()

	creds, err := credentials.NewServerTLSFromFile(*cert, *key)
	if err != nil {
		log.Fatal(err)
	}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer(grpc.Creds(creds))
	pb.RegisterProxyServiceServer(server, &proxy{backend: *backend})
	log.Fatal(server.Serve(l))
}
