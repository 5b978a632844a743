#include "relay/control_msg.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ktbgp.pb-c.h"

typedef Kentik__Ktbgp__V202203beta2__ControlRequest PbRequest;
typedef Kentik__Ktbgp__V202203beta2__ControlResponse PbResponse;
typedef Kentik__Ktbgp__V202203beta2__KeyVal PbKeyVal;
typedef Kentik__Ktbgp__V202203beta2__ControlAction PbAction;

#define PB(name) kentik__ktbgp__v202203beta2__##name

/* protobuf-c wants char * where it only reads. */
static char *text(const char *s)
{
    return (char *)(uintptr_t)s;
}

bool control_request_encode(const struct control_request *m, struct buf *out)
{
    char device[ADDR_TEXT_MAX], proxy[ADDR_TEXT_MAX];
    PbRequest pb;
    PB(control_request__init)(&pb);
    pb.action = (PbAction)m->action;
    if (m->action != CONTROL_KEEPALIVE) {
        pb.proto = text(CONTROL_PROTO_BGP);
        addr_ip_text(&m->device, device);
        addr_ip_text(&m->proxy, proxy);
        pb.device_ip = device;
        pb.device_port = m->device.port;
        pb.proxy_ip = proxy;
        pb.proxy_port = m->proxy.port;
    }
    size_t n = PB(control_request__get_packed_size)(&pb);
    uint8_t *p = buf_reserve(out, n ? n : 1);
    if (!p)
        return false;
    buf_added(out, PB(control_request__pack)(&pb, p));
    return true;
}

bool control_response_encode(const struct control_response *m, const struct addr *proxy, struct buf *out)
{
    char device[ADDR_TEXT_MAX], proxy_text[ADDR_TEXT_MAX] = "";
    PbResponse pb;
    PB(control_response__init)(&pb);
    pb.action = (PbAction)m->action;
    PbKeyVal *pairs = NULL;
    PbKeyVal **list = NULL;
    char **vals = NULL;
    if (m->action != CONTROL_KEEPALIVE) {
        pb.proto = text(CONTROL_PROTO_BGP);
        addr_ip_text(&m->device, device);
        pb.device_ip = device;
        pb.device_port = m->device.port;
        if (proxy) {
            addr_ip_text(proxy, proxy_text);
            pb.proxy_port = proxy->port;
        }
        pb.proxy_ip = proxy_text;
        pb.ttl_seconds = m->ttl_seconds;
        pb.ttl_counter = m->ttl_counter;
        pb.company_id = m->company_id;
        pb.device_id = m->device_id;
        pb.device_name = text(m->device_name);
        pb.tcp_md5.data = (uint8_t *)(uintptr_t)m->md5;
        pb.tcp_md5.len = m->md5_len;
        if (m->metadata.count > 0) {
            pairs = calloc(m->metadata.count, sizeof *pairs);
            list = calloc(m->metadata.count, sizeof *list);
            vals = calloc(m->metadata.count, sizeof *vals);
            if (!pairs || !list || !vals)
                goto fail;
            struct kv_pair pair;
            size_t i = 0;
            for (uint32_t pos = 0; kv_next(&m->metadata, &pos, &pair); i++) {
                PB(key_val__init)(&pairs[i]);
                vals[i] = text(pair.val);
                pairs[i].key = text(pair.key);
                pairs[i].n_val = 1;
                pairs[i].val = &vals[i];
                list[i] = &pairs[i];
            }
            pb.n_metadata = i;
            pb.metadata = list;
        }
    }
    size_t n = PB(control_response__get_packed_size)(&pb);
    uint8_t *p = buf_reserve(out, n ? n : 1);
    if (!p)
        goto fail;
    buf_added(out, PB(control_response__pack)(&pb, p));
    free(pairs);
    free(list);
    free(vals);
    return true;
fail:
    free(pairs);
    free(list);
    free(vals);
    return false;
}

/* An address and a port from the wire. An empty address is allowed only where `optional`. */
static bool read_addr(const char *ip, uint32_t port, bool optional, const char *what, struct addr *out,
                      struct err *e)
{
    *out = (struct addr){0};
    if (port > 65535)
        return err_set(e, "%s_port %u is no port", what, port);
    if (ip[0] == 0 && optional)
        return true;
    if (!addr_parse_ip(out, ip)) {
        /* A zone (fe80::1%eth0) means something on the agent's host only. */
        char bare[ADDR_TEXT_MAX];
        snprintf(bare, sizeof bare, "%.*s", (int)strcspn(ip, "%"), ip);
        if (!addr_parse_ip(out, bare))
            return err_set(e, "%s_ip \"%.64s\" is no IP address", what, ip);
    }
    out->scope = 0;
    out->port = (uint16_t)port;
    return true;
}

/* An action that we do not know means carry on. */
static enum control_action read_action(int action)
{
    return action == CONTROL_BLOCK_IP || action == CONTROL_KEEPALIVE ? (enum control_action)action
                                                                     : CONTROL_CARRY_ON;
}

bool control_request_decode(const uint8_t *p, size_t n, struct control_request *out, struct err *e)
{
    *out = (struct control_request){0};
    PbRequest *pb = n > CONTROL_MESSAGE_MAX ? NULL : PB(control_request__unpack)(NULL, n, p);
    if (!pb)
        return err_set(e, "a ControlRequest of %zu bytes that does not decode", n);
    bool ok = true;
    out->action = read_action((int)pb->action);
    if (out->action != CONTROL_KEEPALIVE) {
        if (strcmp(pb->proto, CONTROL_PROTO_BGP) != 0)
            ok = err_set(e, "proto \"%.32s\" is not BGP", pb->proto);
        else
            ok = read_addr(pb->device_ip, pb->device_port, false, "device", &out->device, e) &&
                 read_addr(pb->proxy_ip, pb->proxy_port, true, "proxy", &out->proxy, e);
    }
    PB(control_request__free_unpacked)(pb, NULL);
    return ok;
}

static bool read_response(const PbResponse *pb, struct control_response *out, struct err *e)
{
    out->action = read_action((int)pb->action);
    if (out->action == CONTROL_KEEPALIVE)
        return true;
    if (strcmp(pb->proto, CONTROL_PROTO_BGP) != 0)
        return err_set(e, "proto \"%.32s\" is not BGP", pb->proto);
    if (!read_addr(pb->device_ip, pb->device_port, false, "device", &out->device, e))
        return false;
    out->ttl_seconds = pb->ttl_seconds;
    out->ttl_counter = pb->ttl_counter;
    out->company_id = pb->company_id;
    out->device_id = pb->device_id;
    snprintf(out->device_name, sizeof out->device_name, "%s", pb->device_name);
    for (size_t i = 0; i < pb->n_metadata; i++)
        for (size_t j = 0; j < pb->metadata[i]->n_val; j++)
            if (!kv_add(&out->metadata, pb->metadata[i]->key, pb->metadata[i]->val[j]))
                return err_set(e, "metadata that does not fit into memory");
    if (pb->tcp_md5.len > CONTROL_MD5_MAX)
        return err_set(e, "a TCP-MD5 key of %zu bytes: the kernel takes %d", pb->tcp_md5.len,
                       CONTROL_MD5_MAX);
    if (pb->tcp_md5.len > 0)
        memcpy(out->md5, pb->tcp_md5.data, pb->tcp_md5.len);
    out->md5_len = (uint8_t)pb->tcp_md5.len;
    return true;
}

bool control_response_decode(const uint8_t *p, size_t n, struct control_response *out, struct err *e)
{
    *out = (struct control_response){0};
    PbResponse *pb = n > CONTROL_MESSAGE_MAX ? NULL : PB(control_response__unpack)(NULL, n, p);
    if (!pb)
        return err_set(e, "a ControlResponse of %zu bytes that does not decode", n);
    bool ok = read_response(pb, out, e);
    if (pb->tcp_md5.len > 0)
        explicit_bzero(pb->tcp_md5.data, pb->tcp_md5.len);
    PB(control_response__free_unpacked)(pb, NULL);
    if (!ok)
        control_response_clear(out);
    return ok;
}

void control_response_clear(struct control_response *m)
{
    kv_free(&m->metadata);
    explicit_bzero(m->md5, sizeof m->md5);
    m->md5_len = 0;
}
