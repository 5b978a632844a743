#ifndef KBGP_DAEMON_LIMITS_H
#define KBGP_DAEMON_LIMITS_H

/* What both programs do about the process's own limits at their start. A limit that cannot be changed stays as it is. */

/* One descriptor a session, and some: the soft limit is often 1024 where the hard one allows far more. */
void limits_raise_descriptors(void);

/* A core file would hold tokens and keys. The soft limit only: prlimit(1) brings it back for a diagnosis. */
void limits_forbid_core_file(void);

#endif
