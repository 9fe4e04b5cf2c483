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
  /**
   * Keeps calls that are left from being taken by other tasks of the event, until this task has ended.
   *
   * @returns false if fewer are left; then nothing changes
   */
  reserve(calls: number): boolean
}
