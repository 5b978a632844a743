#ifndef KBGP_NET_GCM_H
#define KBGP_NET_GCM_H

/*
 * AES-GCM, which is most of what TLS costs for bulk data, from Intel's IPsec-MB library instead of OpenSSL, where that
 * is faster: processors with VAES, VPCLMULQDQ and AVX-512 seal a record of 16 KiB in two fifths of the time. OpenSSL
 * has the like itself since 3.1, but Debian 12 and Ubuntu 22.04 have 3.0, and so had EL 9 at first.
 *
 * It is a provider inside the program, as OpenSSL means it (provider(7)); all else of TLS stays OpenSSL's.
 */

/*
 * What to ask OpenSSL's default library context for (property(7)), so that AES-GCM is the faster one; NULL: OpenSSL's own it is.
 * It is that where the program was built without the library, with another processor, with OpenSSL 3.1 and later, in
 * FIPS mode, and if the library does not seal as OpenSSL does. The first call finds out and loads the provider.
 */
const char *gcm_properties(void);

#endif
