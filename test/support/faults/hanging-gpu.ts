/**
 * The process of a node whose GPU hangs: it scores a text, then lets every step hang, and scores again. It sends what became of
 * each text, and the reason for which it ends.
 */
import { loadGpu } from '../../../gpu-node/src/platform/gpu-addon.ts'
import { reasonOf } from '../../../gpu-node/src/platform/log.ts'
import { createProcessEnd } from '../../../gpu-node/src/platform/process-end.ts'
import { createStopStack } from '../../../gpu-node/src/platform/stop-stack.ts'
import { createGpuBackend } from '../../../gpu-node/src/serving/backends/gpu/gpu-backend.ts'
import { createEngine } from '../../../gpu-node/src/serving/engine/engine.ts'
import { createMaskSwap } from '../../../gpu-node/src/serving/masks/mask-swap.ts'
import { memoryLog } from '../doubles/memory-log.ts'
import { TOKENS } from '../models/masked-scores.ts'
import { openTinyModel } from '../models/tiny-model.ts'

/** What the process sends. */
export type HangingGpuMessage = { scores: string[] } | { ends: string }

const send = (message: HangingGpuMessage) => void process.send?.(message)
const log = memoryLog()
const parts = createStopStack(1_500, log)
const processEnd = createProcessEnd({
  async stop() {
    await parts.stop()
    return true
  },
  onFailure: (reason) => send({ ends: reason }),
  exit: (code) => process.exit(code),
})

const tiny = parts.add('model', await openTinyModel(), (opened) => opened.remove())
const { model } = tiny
/** Long while the device works, however busy the machine is. */
let timeoutMs = 600_000
const backend = createGpuBackend({
  addon: loadGpu(),
  device: process.env['COPAL_GPU'],
  kvTokens: 1024,
  timeoutMs: () => timeoutMs,
  onGone: (error) => processEnd.fail(reasonOf(error)),
})
const engine = parts.add(
  'engine',
  createEngine({ backend, config: model.config, codec: model.codec, policy: { kvTokens: 512 } }),
  (part) => part.close(),
)
const masks = { ensure: () => Promise.reject(new Error('dense weights have no mask')) }
const swap = parts.add(
  'weights',
  createMaskSwap({ model, backend, engine, masks, log, onChange: () => undefined }),
  (part) => part.close(),
)
await swap.start({ active: null, previous: null })
const weights = swap.weights(0)
if (!weights) throw new Error('the weights are not loaded')
const score = () =>
  engine.score({ weights, tokens: [...TOKENS], lane: 'drift' }).then(
    () => 'scored',
    (error: unknown) => reasonOf(error),
  )

send({ scores: [await score()] })
timeoutMs = 1_000
backend.provokeHang()
const stuck = score()
const waiting = score()
send({ scores: [await stuck, await waiting] })
