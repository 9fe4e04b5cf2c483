/** The calls of other services that an event, or one task of it, may still make. */
export interface CallBudget {
  /** Calls that are left now; infinite where nothing counts them. */
  readonly left: number
  /**
   * Takes calls.
   *
   * @throws CallsUsedUp if fewer are left
   */
  take(calls: number): void
}
