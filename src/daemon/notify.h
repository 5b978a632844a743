#ifndef KBGP_DAEMON_NOTIFY_H
#define KBGP_DAEMON_NOTIFY_H

#include <stdint.h>

/*
 * What the service manager wants to know (sd_notify(3)), sent as datagrams to $NOTIFY_SOCKET. Without that
 * variable every function here does nothing. Failing to notify is no reason to fail: nothing is reported.
 */

/* Started up: sessions can come. Waits for the service manager to take it, since a lost READY=1 is a failed
 * start. */
void notify_ready(void);

/* One line for `systemctl status`. Control characters become spaces; longer than 400 bytes is cut. */
__attribute__((format(printf, 1, 2))) void notify_status(const char *fmt, ...);

/*
 * Reading the configuration again; notify_ready() says when that is done (a unit of Type=notify-reload
 * waits).
 */
void notify_reloading(void);

/* Shutting down. */
void notify_stopping(void);

/* Still alive: to be called every notify_watchdog_interval_ms(). */
void notify_watchdog(void);

/*
 * How often to call notify_watchdog(): half of what $WATCHDOG_USEC allows. 0: no watchdog for this process.
 */
int64_t notify_watchdog_interval_ms(void);

#endif
