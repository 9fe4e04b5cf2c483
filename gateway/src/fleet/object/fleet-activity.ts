/**
 * Tells when the fleet itself was away (the gateway down, its machine asleep): between two events lay as much time as the
 * silence of a dead node. After that, every node has as much time again to send its heartbeat and receipts.
 */
export class FleetActivity {
  readonly #deadMs: number
  /** The time of the last heartbeat or sweep. */
  #lastMs = -Infinity
  /** The time since which heartbeats and sweeps had no such gap. */
  #activeSinceMs = -Infinity

  constructor(deadMs: number) {
    this.#deadMs = deadMs
  }

  /** Notes a heartbeat or a sweep. */
  note(nowMs: number): void {
    if (nowMs - this.#lastMs >= this.#deadMs) this.#activeSinceMs = nowMs
    this.#lastMs = nowMs
  }

  /** The time until which the silence of nodes does not count. */
  get graceEndsMs(): number {
    return this.#activeSinceMs + this.#deadMs
  }
}
