/** The folder of the crate. */
export const GPU_CRATE: string
/** Returns the SHA-256, in hexadecimal, over the sources of the crate and of the native crate. */
export function gpuSourceHash(): string
