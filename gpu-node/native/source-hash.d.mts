/** SHA-256, in hexadecimal, over what of the crate goes into the binary. */
export function sourceHash(crate: string): string
