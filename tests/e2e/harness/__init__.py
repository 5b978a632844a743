# SPDX-License-Identifier: Apache-2.0
"""The pieces that the end-to-end tests are made of. One subject a file; whatever starts something is a context manager."""
