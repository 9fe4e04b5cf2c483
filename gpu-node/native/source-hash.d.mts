/** Returns the SHA-256, in hexadecimal, over the sources of the crate that go into the binary. */
export function sourceHash(crate: string): string
