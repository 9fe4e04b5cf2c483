/**
 * The program of the child process that calibrates, selects masks and tokenises long texts. It receives one request, reports
 * progress, and sends one result. It exits when its parent does.
 */
import '../../platform/background-process.ts'
import { inspect } from 'node:util'
import { AppError, errorBody, toAppError } from '@copal/shared/errors.ts'
import { openModel } from '../../model/open-model.ts'
import { calibrateAndSelect } from './calibrate-and-select.ts'
import { chooseDevice } from './choose-device.ts'
import { selectionGpuBytes } from './gpu-memory.ts'
import type { ChildMessage, ChildRequest, ModelReference, TrafficMessage } from './pruning-child-protocol.ts'
import { createPacer, type Pacer } from '../../platform/pacer.ts'
import { killThisProcess } from '../../platform/process-end.ts'
import { reportProcessorTime } from '../../platform/processor-time.ts'
import { yieldToEventLoop } from '../calibration/block-runner.ts'
import { cutWindows } from '../evaluation/text-windows.ts'

/** Time between two messages that tell the parent of pauses. */
const ALIVE_INTERVAL_MS = 10_000

reportProcessorTime()
// A thread may hang in a driver.
process.once('disconnect', killThisProcess)
let pacer: Pacer | undefined
let isBusy = false
process.on('message', (message: ChildRequest | TrafficMessage) => {
  if (message.kind !== 'traffic') void serve(message)
  else {
    isBusy = message.isBusy
    pacer?.bind(isBusy)
  }
})

async function serve(request: ChildRequest): Promise<void> {
  let end: ChildMessage
  try {
    end = await perform(request)
  } catch (thrown) {
    const error = toAppError(thrown)
    // The parent logs the standard error of this process. The error body never contains a stack.
    if (error.code === 'internal_error') process.stderr.write(`${inspect(error.cause ?? error)}\n`)
    end = { type: 'failed', error: errorBody(error) }
  }
  send(end, () => process.exit(0))
}

async function perform(request: ChildRequest): Promise<ChildMessage> {
  const model = await openReferencedModel(request.model)
  if (request.kind === 'calibrate') {
    const { task, threads, share = 1, gpu } = request
    const own = (pacer = createPacer(share))
    own.bind(isBusy)
    const alive = reportPauses()
    const pause = async () => {
      alive.begin()
      // Without it no message would arrive.
      await yieldToEventLoop()
      await own.pause()
      alive.end()
    }
    const leave = (neededBytes: number) => gpu && send({ type: 'gpu-left', neededBytes })
    const device = chooseDevice({
      gpu,
      pause,
      warn: (message) => send({ type: 'warning', message }),
      onLeft: () => leave(0),
    })
    const outcome = await calibrateAndSelect(
      model,
      task,
      threads,
      (progress) => send({ type: 'progress', progress }),
      { pause, ...device, onCalibrated: () => leave(selectionGpuBytes(model.config, task)) },
    )
    return { type: 'calibrated', outcome }
  }
  const { sources, windowTokens, maxWindows } = request
  const windows = []
  for (const source of sources) windows.push(await cutWindows(source, model.codec, windowTokens, maxWindows))
  return { type: 'windows', windows }
}

/** Tells the parent from time to time that the work comes to its pauses, or waits in one. */
function reportPauses(): { begin: () => void; end: () => void } {
  let [begun, ended, reported] = [0, 0, 0]
  const report = () => {
    if (begun > reported || begun > ended) send({ type: 'alive' })
    reported = begun
  }
  setInterval(report, ALIVE_INTERVAL_MS).unref()
  return { begin: () => void (begun += 1), end: () => void (ended += 1) }
}

async function openReferencedModel({ spec, cacheDir, id, baseSha256 }: ModelReference) {
  const model = await openModel(spec, { cacheDir, id })
  if (model.master.baseSha256 !== baseSha256) {
    throw new AppError(
      'unsupported_model',
      `${spec} has changed on disk since the node opened it. Restart the node.`,
    )
  }
  return model
}

function send(message: ChildMessage, then?: () => void): void {
  process.send?.(message, undefined, undefined, then)
}
