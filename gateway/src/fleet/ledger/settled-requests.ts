import type { Charge, SettledRequest } from './ledger-records.ts'

/** How long a settled request is remembered for a retry of it. Short, because thousands may be settled per second. */
const REMEMBER_MS = 30_000
/** How long a request that was settled by an estimate is remembered, for the receipt that corrects it. */
const REMEMBER_ESTIMATE_MS = 600_000

/**
 * The requests that were settled of late: another attempt may still follow, and the receipt of one that was settled by an estimate may
 * still correct it. Only these are stored. Pure: it has no clock of its own.
 */
export class SettledRequests {
  readonly #byRequest = new Map<string, SettledRequest>()
  readonly #byLease = new Map<string, SettledRequest>()
  /** The ids of the requests that were settled by an estimate. */
  readonly #estimated = new Set<string>()
  #changed = new Set<string>()

  add(settled: SettledRequest, isEstimate: boolean): void {
    const { requestId, leaseId } = settled.reservation
    this.#byRequest.set(requestId, settled)
    this.#byLease.set(leaseId, settled)
    if (!isEstimate) return
    this.#estimated.add(requestId)
    this.#changed.add(requestId)
  }

  /** Adds a request that was stored. */
  restore(settled: SettledRequest): void {
    this.add(settled, true)
    this.#changed.delete(settled.reservation.requestId)
  }

  find(requestId: string): SettledRequest | undefined {
    return this.#byRequest.get(requestId)
  }

  /** Returns the request that an attempt settled. */
  findAttempt(leaseId: string): SettledRequest | undefined {
    return this.#byLease.get(leaseId)
  }

  /** Replaces the charge of a request by one that is final. */
  correct(settled: SettledRequest, charge: Partial<Charge>): void {
    Object.assign(settled, charge)
    this.#endEstimate(settled)
  }

  /** Whether a request was settled by an estimate that nothing has corrected. */
  isEstimate({ reservation }: SettledRequest): boolean {
    return this.#estimated.has(reservation.requestId)
  }

  delete(settled: SettledRequest): void {
    this.#endEstimate(settled)
    this.#byRequest.delete(settled.reservation.requestId)
    this.#byLease.delete(settled.reservation.leaseId)
  }

  /** Forgets the requests that were settled too long ago. */
  sweep(nowMs: number): void {
    for (const settled of this.#byRequest.values())
      if (nowMs - settled.atMs >= (this.isEstimate(settled) ? REMEMBER_ESTIMATE_MS : REMEMBER_MS))
        this.delete(settled)
  }

  get size(): number {
    return this.#byRequest.size
  }

  /** Returns and clears the changes to store since the last call. */
  takeChanges(): Map<string, SettledRequest | undefined> {
    const changes = [...this.#changed].map((id) => {
      return [id, this.#estimated.has(id) ? this.#byRequest.get(id) : undefined] as const
    })
    this.#changed = new Set()
    return new Map(changes)
  }

  /** Returns changes of {@link takeChanges} that could not be stored; the next call includes them again. */
  returnChanges(changes: ReadonlyMap<string, unknown>): void {
    for (const requestId of changes.keys()) this.#changed.add(requestId)
  }

  #endEstimate({ reservation: { requestId } }: SettledRequest): void {
    if (this.#estimated.delete(requestId)) this.#changed.add(requestId)
  }
}
