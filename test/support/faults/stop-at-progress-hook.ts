/** Stops the process that loads it, see `stop-at-progress.ts`. */
import { closeSync, openSync } from 'node:fs'

const text = process.env['TEST_STOP_AT']
const onceFile = process.env['TEST_STOP_ONCE']

const send = process.send?.bind(process)

if (text !== undefined && send)
  process.send = (...args: unknown[]) => {
    // Written before it returns, so that the parent receives it.
    const isSent: unknown = Reflect.apply(send, undefined, args)
    if (progressOf(args[0])?.includes(text) && isFirst()) process.kill(process.pid, 'SIGSTOP')
    return isSent === true
  }

/** Returns the words of a progress message: of a calibration, or of the laboratory. */
function progressOf(sent: unknown): string | undefined {
  const { progress, message } = (sent ?? {}) as { progress?: { message?: unknown }; message?: unknown }
  const words = progress?.message ?? message
  return typeof words === 'string' ? words : undefined
}

/** Whether no process has stopped before, if only the first one may. */
function isFirst(): boolean {
  if (onceFile === undefined) return true
  try {
    closeSync(openSync(onceFile, 'wx'))
    return true
  } catch {
    return false
  }
}
