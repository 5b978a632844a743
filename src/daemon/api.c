#include "daemon/api.h"

#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/list.h"
#include "net/listener.h"

/* Of one connection, for its request headers: what is longer is answered with 431. */
#define CONNECTION_MEMORY (32u << 10)
/* Handed to libmicrohttpd at a time. */
#define BODY_BLOCK (16u << 10)
/* An answer up to this size does not count as one that could fill the memory. */
#define SMALL_BODY      (64u << 10)
#define SWEEP_PERIOD_MS 5000

#define TYPE_JSON "application/json"

struct api {
    struct loop *loop;
    struct MHD_Daemon *mhd;
    struct listener *listener;
    struct loop_watch *watch; /* the epoll descriptor of libmicrohttpd, which watches the connections */
    struct loop_timer *timer; /* its next timeout */
    struct loop_timer *sweep; /* ends connections that are too old */
    struct loop_task run;
    struct list connections;
    size_t bodies; /* bytes of answers under way */
    const struct api_route *routes;
    size_t n_routes;
    void *arg;
};

struct connection {
    struct list node;
    int fd;
    int64_t since_ms;
};

/* The body of an answer under way. */
struct body {
    struct api *api;
    struct buf bytes;
};

/* --- bringing libmicrohttpd into the loop --- */

static void run(void *arg)
{
    struct api *api = arg;
    MHD_run(api->mhd);
    MHD_UNSIGNED_LONG_LONG ms;
    if (MHD_get_timeout(api->mhd, &ms) == MHD_YES)
        loop_timer_start(api->timer, ms < API_LIFE_MS ? (int64_t)ms : API_LIFE_MS, 0);
    else
        loop_timer_stop(api->timer);
}

static void on_readable(void *arg, unsigned events)
{
    (void)events;
    run(arg);
}

static void on_accepted(void *arg, int fd, const struct addr *peer, const struct addr *local)
{
    (void)local;
    struct api *api = arg;
    struct sockaddr_storage ss;
    socklen_t len = addr_to_sockaddr(peer, &ss);
    /* At the limit libmicrohttpd refuses, and closes the socket itself. */
    MHD_add_connection(api->mhd, fd, (const struct sockaddr *)&ss, len);
    loop_task_defer(&api->run);
}

static void on_connection(void *arg, struct MHD_Connection *mc, void **socket_context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct api *api = arg;
    struct connection *c = *socket_context;
    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        if (c)
            list_remove(&c->node);
        free(c);
        return;
    }
    c = *socket_context = calloc(1, sizeof *c);
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(mc, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (!c || !info)
        return;
    c->fd = info->connect_fd;
    c->since_ms = loop_now_ms(api->loop);
    list_append(&api->connections, &c->node);
}

/* The idle timeout does not end a peer that sends or takes a byte now and then. The shutdown does: it reads
 * as an end. */
static void on_sweep(void *arg)
{
    struct api *api = arg;
    int64_t now = loop_now_ms(api->loop);
    LIST_FOREACH (node, &api->connections) {
        struct connection *c = LIST_ITEM(node, struct connection, node);
        if (now - c->since_ms >= API_LIFE_MS)
            shutdown(c->fd, SHUT_RDWR);
    }
}

/* --- answers --- */

static ssize_t read_body(void *arg, uint64_t pos, char *to, size_t max)
{
    const struct body *b = arg;
    size_t left = buf_len(&b->bytes) - (size_t)pos;
    size_t n = left < max ? left : max;
    memcpy(to, buf_begin(&b->bytes) + pos, n);
    return (ssize_t)n;
}

static void free_body(void *arg)
{
    struct body *b = arg;
    b->api->bodies -= b->bytes.cap;
    buf_free(&b->bytes);
    free(b);
}

static void set_error(struct api_response *response, unsigned status, const char *json)
{
    response->status = status;
    response->content_type = TYPE_JSON;
    buf_take(&response->body, buf_len(&response->body));
    buf_append(&response->body, json, strlen(json));
}

static const struct api_route *find_route(const struct api *api, const char *path)
{
    for (const struct api_route *r = api->routes; r < api->routes + api->n_routes; r++)
        if (strcmp(r->path, path) == 0 || (r->prefix && strncmp(r->path, path, strlen(r->path)) == 0))
            return r;
    return NULL;
}

static void handle(struct api *api, struct MHD_Connection *mc, const char *path,
                   struct api_response *response)
{
    const struct api_route *route = find_route(api, path);
    const char *accept = MHD_lookup_connection_value(mc, MHD_HEADER_KIND, "Accept");
    struct api_request request = {
        .path = path,
        .rest = route ? path + strlen(route->path) : "",
        .accept = accept ? accept : "",
        /* The short form of this call cannot tell "?pretty" from nothing. */
        .pretty =
            MHD_lookup_connection_value_n(mc, MHD_GET_ARGUMENT_KIND, "pretty", 6, NULL, NULL) == MHD_YES,
    };
    if (!route)
        set_error(response, MHD_HTTP_NOT_FOUND, "{\"error\":\"not found\"}\n");
    else
        route->handle(api->arg, &request, response);
    /* Small answers are always given: slow readers of a long list must not make the health check fail. */
    if (api->bodies + response->body.cap > API_BODIES_MAX && response->body.cap > SMALL_BODY &&
        api->bodies > 0) {
        buf_free(&response->body);
        set_error(response, MHD_HTTP_SERVICE_UNAVAILABLE, "{\"error\":\"too many answers are under way\"}\n");
    }
}

/* Takes the body of the response. */
static enum MHD_Result send_response(struct api *api, struct MHD_Connection *mc,
                                     struct api_response *response)
{
    struct body *b = malloc(sizeof *b);
    if (!b) {
        buf_free(&response->body);
        return MHD_NO;
    }
    *b = (struct body){.api = api, .bytes = response->body};
    api->bodies += b->bytes.cap;
    struct MHD_Response *r =
        MHD_create_response_from_callback(buf_len(&b->bytes), BODY_BLOCK, read_body, b, free_body);
    if (!r) {
        free_body(b);
        return MHD_NO;
    }
    MHD_add_response_header(r, "Content-Type", response->content_type);
    MHD_add_response_header(r, "Cache-Control", "no-store");
    if (response->status == MHD_HTTP_METHOD_NOT_ALLOWED)
        MHD_add_response_header(r, "Allow", "GET, HEAD");
    enum MHD_Result result = MHD_queue_response(mc, response->status, r);
    MHD_destroy_response(r);
    return result;
}

/*
 * Called once when the headers are there, once for each piece of a body, and once at the end of the request.
 * The first call only marks the request as seen, unless nothing that could follow matters.
 */
static enum MHD_Result on_request(void *arg, struct MHD_Connection *mc, const char *url, const char *method,
                                  const char *version, const char *upload, size_t *upload_size,
                                  void **context)
{
    static const char seen;
    (void)version;
    (void)upload;
    struct api *api = arg;
    struct api_response response = {.status = MHD_HTTP_OK, .content_type = TYPE_JSON};
    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) {
        if (*context)
            return MHD_NO; /* already answered: what else comes is not read */
        *context = (void *)&seen;
        set_error(&response, MHD_HTTP_METHOD_NOT_ALLOWED, "{\"error\":\"method not allowed\"}\n");
        return send_response(api, mc, &response);
    }
    if (!*context) {
        *context = (void *)&seen;
        return MHD_YES;
    }
    if (*upload_size > 0) {
        *upload_size = 0;
        return MHD_YES;
    }
    handle(api, mc, url, &response);
    return send_response(api, mc, &response);
}

/* --- start and end --- */

static bool start(struct api *api, const struct addr *addr, struct err *e)
{
    api->mhd = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET, 0, NULL, NULL, on_request, api,
                                MHD_OPTION_CONNECTION_LIMIT, (unsigned)API_CONNECTIONS_MAX,
                                MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)API_IDLE_S,
                                MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY,
                                MHD_OPTION_NOTIFY_CONNECTION, on_connection, api, MHD_OPTION_END);
    if (!api->mhd)
        return err_set(e, "the HTTP server of the status pages could not be started");
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(api->mhd, MHD_DAEMON_INFO_EPOLL_FD);
    if (!info || info->epoll_fd < 0)
        return err_set(e, "libmicrohttpd gives no epoll descriptor");
    api->watch = loop_watch_new(api->loop, info->epoll_fd, LOOP_READ, on_readable, api, e);
    if (!api->watch)
        return false;
    api->listener = listener_new(api->loop, addr, on_accepted, api, e);
    return api->listener != NULL;
}

struct api *api_new(struct loop *loop, const struct addr *addr, const struct api_route *routes,
                    size_t n_routes, void *arg, struct err *e)
{
    struct api *api = calloc(1, sizeof *api);
    if (!api) {
        err_set(e, "out of memory");
        return NULL;
    }
    api->loop = loop;
    api->routes = routes;
    api->n_routes = n_routes;
    api->arg = arg;
    list_init(&api->connections);
    loop_task_init(&api->run, loop, run, api);
    api->timer = loop_timer_new(loop, run, api);
    api->sweep = loop_timer_new(loop, on_sweep, api);
    if (!start(api, addr, e)) {
        api_free(api);
        return NULL;
    }
    loop_timer_start(api->sweep, SWEEP_PERIOD_MS, SWEEP_PERIOD_MS);
    return api;
}

const struct addr *api_addr(const struct api *api)
{
    return listener_addr(api->listener);
}

int api_fd(const struct api *api)
{
    return listener_fd(api->listener);
}

void api_free(struct api *api)
{
    if (!api)
        return;
    loop_task_cancel(&api->run);
    loop_timer_free(api->timer);
    loop_timer_free(api->sweep);
    loop_watch_free(api->watch);
    listener_free(api->listener);
    if (api->mhd)
        MHD_stop_daemon(api->mhd);
    free(api);
}
