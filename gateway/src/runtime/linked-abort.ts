/**
 * A controller that is aborted when `signal` is, with its reason, and by whoever has it: of signals that are combined
 * the runtime makes another, at a cost that every request would pay.
 */
export function linkAbort(signal: AbortSignal): AbortController {
  const controller = new AbortController()
  if (signal.aborted) controller.abort(signal.reason)
  else signal.addEventListener('abort', () => controller.abort(signal.reason), { once: true })
  return controller
}
