/**
 * The program of the process in which grammars are compiled for the first time, to see whether that ends. It watches itself
 * while it compiles, says what it found, and never outlives its parent.
 */
import type { AddonError } from '../../../native/addon.d.ts'
import { loadNative } from '../../platform/native-addon.ts'
import { enterBackground } from '../../platform/background-priority.ts'
import { TRIAL_LIMITS, type TrialAnswer, type TrialRequest } from './compile-sandbox-protocol.ts'

/** How often what a compilation has taken is looked at. */
const LOOK_MS = 50
const BYTES = 256

// Not `exit`, which waits for the thread that compiles.
const end = () => process.kill(process.pid, 'SIGKILL')
process.once('disconnect', end)
enterBackground()

/** What a grammar costs does not hang on the tokens: every byte is one, and the last is the end. */
const vocabulary = loadNative().createVocabulary({
  bytes: Uint8Array.from({ length: BYTES }, (_, byte) => byte),
  lengths: Uint32Array.from({ length: BYTES + 1 }, (_, token) => (token < BYTES ? 1 : 0)),
  special: new Uint8Array(BYTES + 1),
  endTokens: Uint32Array.of(BYTES),
})

process.on('message', (request: TrialRequest) => void serve(request))

async function serve({ language, text }: TrialRequest): Promise<void> {
  const compiler = await vocabulary
  const before = processorMs()
  const timer = setInterval(() => {
    const isTooMuch =
      processorMs() - before > TRIAL_LIMITS.processorMs || process.memoryUsage.rss() > TRIAL_LIMITS.bytes
    if (isTooMuch) tell({ end: 'too costly' }, end)
  }, LOOK_MS)
  try {
    await compiler.compile(language, text)
    tell({ end: 'compiled' })
  } catch (thrown) {
    const { code, detail, message } = thrown as Partial<AddonError>
    tell({ end: 'refused', code: String(code), message: String(message), detail })
  } finally {
    clearInterval(timer)
  }
}

function processorMs(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1000
}

function tell(answer: TrialAnswer, then?: () => void): void {
  process.send?.(answer, undefined, undefined, then)
}
