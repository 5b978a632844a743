#include "agent/pages.h"

const struct api_route agent_routes[] = {
    {.path = "/hc", .handle = pages_health},
    {.path = "/admin/status", .handle = pages_status},
    {.path = "/admin/sessions", .handle = pages_sessions},
    {.path = "/admin/sessions/", .prefix = true, .handle = pages_session},
    {.path = "/metrics", .handle = pages_metrics},
};
const size_t agent_n_routes = sizeof agent_routes / sizeof *agent_routes;
