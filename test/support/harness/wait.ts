/** Options of `vi.waitFor` for files, HTTP and processes. Its default of one second is too short on a busy machine. */
export const WAIT = { timeout: 120_000, interval: 20 }
/** The same in tests that may take minutes, of services that other tests slow down. */
export const LONG_WAIT = { timeout: 300_000, interval: 50 }
