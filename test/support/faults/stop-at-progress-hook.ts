/** Stops the process that loads it, see `stop-at-progress.ts`. */
const text = process.env['TEST_STOP_AT']

const send = process.send?.bind(process)

if (text !== undefined && send)
  process.send = (...args: unknown[]) => {
    // Written before it returns, so that the parent receives it.
    const isSent: unknown = Reflect.apply(send, undefined, args)
    if (progressOf(args[0])?.includes(text)) process.kill(process.pid, 'SIGSTOP')
    return isSent === true
  }

/** Returns the words of a progress message: of a calibration, or of the laboratory. */
function progressOf(sent: unknown): string | undefined {
  const { progress, message } = (sent ?? {}) as { progress?: { message?: unknown }; message?: unknown }
  const words = progress?.message ?? message
  return typeof words === 'string' ? words : undefined
}
