/** For `vi.waitFor`: long enough for files, HTTP and processes of a busy machine; its own second is not. */
export const WAIT = { timeout: 40_000, interval: 20 }
