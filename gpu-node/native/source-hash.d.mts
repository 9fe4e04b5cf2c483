/** Returns the SHA-256, in hexadecimal, over the sources of the native addon. */
export function sourceHash(workspace: string): string
/** Returns the SHA-256, in hexadecimal, over the sources of these crates. */
export function hashCrates(workspace: string, crates: string[]): string
