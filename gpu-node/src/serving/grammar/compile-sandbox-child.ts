/**
 * Compiles grammars in a process of its own, to find out whether they can be compiled within the limits. The process
 * measures itself while it compiles, reports the result, and never outlives its parent.
 */
import type { AddonError } from '../../../native/addon.d.ts'
import { loadNative } from '../../platform/native-addon.ts'
import { enterBackground } from '../../platform/background-priority.ts'
import type { SandboxRequest, SandboxResult } from './compile-sandbox-protocol.ts'

/** Interval between two checks of the limits. */
const CHECK_INTERVAL_MS = 50
const BYTES = 256

// Not `exit`, which would wait for the compiling thread.
const end = () => process.kill(process.pid, 'SIGKILL')
process.once('disconnect', end)
enterBackground()

/** A minimal vocabulary: one token per byte, and an end token. The cost of a grammar does not depend on the tokens. */
const vocabulary = loadNative().createVocabulary({
  bytes: Uint8Array.from({ length: BYTES }, (_, byte) => byte),
  lengths: Uint32Array.from({ length: BYTES + 1 }, (_, token) => (token < BYTES ? 1 : 0)),
  special: new Uint8Array(BYTES + 1),
  endTokens: Uint32Array.of(BYTES),
})

process.on('message', (request: SandboxRequest) => void serve(request))

async function serve({ language, text, limits }: SandboxRequest): Promise<void> {
  const compiler = await vocabulary
  const before = processorMs()
  const timer = setInterval(() => {
    const exceedsLimits =
      processorMs() - before > limits.processorMs || process.memoryUsage.rss() > limits.bytes
    if (exceedsLimits) report({ outcome: 'too costly' }, end)
  }, CHECK_INTERVAL_MS)
  try {
    await compiler.compile(language, text)
    report({ outcome: 'compiled' })
  } catch (thrown) {
    const { code, detail, message } = thrown as Partial<AddonError>
    report({ outcome: 'rejected', code: String(code), message: String(message), detail })
  } finally {
    clearInterval(timer)
  }
}

function processorMs(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1000
}

function report(result: SandboxResult, then?: () => void): void {
  process.send?.(result, undefined, undefined, then)
}
