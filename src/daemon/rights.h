#ifndef KBGP_DAEMON_RIGHTS_H
#define KBGP_DAEMON_RIGHTS_H

/*
 * Makes the capabilities that the process may use (its permitted ones) effective. A program file can carry capabilities
 * in two ways. With the effective bit they count at once, and the kernel refuses to start the file (EPERM) where one of
 * them is kept from the process, as containers do with CAP_NET_RAW. Without that bit it always starts, with those that
 * are left, but has to ask for them: here. No failure: what is not permitted stays away, and whoever needs it says so.
 */
void rights_use_permitted(void);

#endif
