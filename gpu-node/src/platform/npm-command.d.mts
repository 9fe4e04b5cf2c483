/** Returns the program, and its first arguments, that run npm on a platform (`process.platform`). */
export function npmCommand(env: Readonly<Record<string, string | undefined>>, platform: string): string[]
