/** Helpers of `@cloudflare/vitest-plugin` that `cloudflare:test` does not export. */
declare module 'cloudflare:test-internal' {
  /** Waits for all work that events of the Worker passed to `waitUntil`. */
  export function waitForGlobalWaitUntil(): Promise<void>
  /** Sets after how long it stops waiting. */
  export function setWaitUntilTimeout(timeoutMs: number): void
}
