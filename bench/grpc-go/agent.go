// SPDX-License-Identifier: Apache-2.0

// The agent of a grpc-go pair: what a relay of TCP connections over this protocol looks like on the stack that the original
// is made of. Each accepted connection is one Data stream, --multi of them on a gRPC connection. It speaks no Control and
// knows no devices, so it does less than kbgp does.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"io"
	"log"
	"net"
	"os"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	pb "bench/ktbgp"
)

// What one read() takes from a router at most, and so the largest message.
const chunk = 32 << 10

// Gives sessions their seats on shared connections.
type pool struct {
	dial  func() (*grpc.ClientConn, error)
	multi int
	lock  sync.Mutex
	conns []*seat
}

type seat struct {
	conn  *grpc.ClientConn
	taken int
}

func (p *pool) take() (*seat, error) {
	p.lock.Lock()
	defer p.lock.Unlock()
	for _, s := range p.conns {
		if s.taken < p.multi {
			s.taken++
			return s, nil
		}
	}
	conn, err := p.dial()
	if err != nil {
		return nil, err
	}
	s := &seat{conn: conn, taken: 1}
	p.conns = append(p.conns, s)
	return s, nil
}

// The last session of a connection closes it, unless it is the only one: the next session would need it again.
func (p *pool) give(s *seat) {
	p.lock.Lock()
	defer p.lock.Unlock()
	s.taken--
	if s.taken > 0 || len(p.conns) == 1 {
		return
	}
	for i, other := range p.conns {
		if other == s {
			p.conns = append(p.conns[:i], p.conns[i+1:]...)
			break
		}
	}
	s.conn.Close()
}

// One session: bytes from the router up, bytes from the target down, until both ways have ended or one has broken.
func relay(router net.Conn, p *pool) {
	defer router.Close()
	s, err := p.take()
	if err != nil {
		log.Print("connecting: ", err)
		return
	}
	defer p.give(s)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stream, err := pb.NewProxyServiceClient(s.conn).Data(ctx)
	if err != nil {
		log.Print("opening a stream: ", err)
		return
	}
	down := make(chan struct{})
	go func() {
		defer close(down)
		for {
			message, err := stream.Recv()
			if err != nil {
				// The end of the way down; when it came as an error, the way up has ended, too.
				if err == io.EOF {
					router.(*net.TCPConn).CloseWrite()
				} else {
					router.Close()
				}
				return
			}
			for _, piece := range message.Data {
				if _, err := router.Write(piece); err != nil {
					cancel()
					return
				}
			}
		}
	}()
	buffer := make([]byte, chunk)
	for {
		n, err := router.Read(buffer)
		if n > 0 {
			// Send has encoded the message when it returns, so the buffer is free again.
			if stream.Send(&pb.DataRequest{Data: [][]byte{buffer[:n]}}) != nil {
				break
			}
		}
		if err == io.EOF {
			stream.CloseSend()
			break
		}
		if err != nil {
			cancel()
			break
		}
	}
	<-down
}

func main() {
	listen := flag.String("listen", "", "HOST:PORT for routers")
	target := flag.String("target", "", "HOST:PORT of the target")
	ca := flag.String("ca", "", "certificate to trust (PEM)")
	name := flag.String("name", "", "name in the target's certificate")
	multi := flag.Int("multi", 10, "sessions a connection")
	flag.Parse()

	pem, err := os.ReadFile(*ca)
	if err != nil {
		log.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(bytes.TrimSpace(pem)) {
		log.Fatal("no certificate in ", *ca)
	}
	tlsConfig := &tls.Config{RootCAs: roots, ServerName: *name, MinVersion: tls.VersionTLS13}
	p := &pool{multi: *multi, dial: func() (*grpc.ClientConn, error) {
		return grpc.Dial(*target, grpc.WithTransportCredentials(credentials.NewTLS(tlsConfig)))
	}}

	l, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	for {
		router, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go relay(router, p)
	}
}
