/** Options of `vi.waitFor` for files, HTTP and processes. Its default of one second is too short on a busy machine. */
export const WAIT = { timeout: 40_000, interval: 20 }
