/**
 * The program of a child process that opens a model, calibrates it and selects a mask, and reports the peak memory of
 * each phase above what the process used before.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { calibrateAndSelect } from '@copal/gpu-node/pruning/runs/calibrate-and-select.ts'
import type { CalibrationTask } from '@copal/gpu-node/pruning/runs/calibration-task.ts'
import { openModel } from '@copal/gpu-node/model/open-model.ts'

/** Message from the parent. */
export interface PeakMemoryRequest {
  spec: string
  cacheDir: string
  task: CalibrationTask
  threads: number
}

/** Peak bytes of each phase above those of the empty process, and its duration. */
export interface PeakMemory {
  ownBytes: number
  openBytes: number
  calibrateBytes: number
  selectBytes: number
  seconds: { open: number; calibrate: number; select: number }
}

process.once('message', (request: PeakMemoryRequest) => {
  void measure(request).then((peaks) => process.send?.(peaks, undefined, undefined, () => process.exit(0)))
})

async function measure({ spec, cacheDir, task, threads }: PeakMemoryRequest): Promise<PeakMemory> {
  const own = residentBytes('VmRSS')
  const opening = startPhase()
  const model = await openModel(spec, { cacheDir })
  const open = opening()
  let calibrating: ReturnType<typeof startPhase> | null = startPhase()
  let selecting: ReturnType<typeof startPhase> | null = null
  let calibrate = { bytes: 0, seconds: 0 }
  await calibrateAndSelect(model, task, threads, ({ message }) => {
    // The last block of the calibration is reported when its statistics are on disk.
    if (calibrating === null || !message.endsWith(`block ${model.config.layers} of ${model.config.layers}`))
      return
    calibrate = calibrating()
    calibrating = null
    selecting = startPhase()
  })
  const select = (selecting as ReturnType<typeof startPhase> | null)?.() ?? { bytes: 0, seconds: 0 }
  return {
    ownBytes: own,
    openBytes: open.bytes - own,
    calibrateBytes: calibrate.bytes - own,
    selectBytes: select.bytes - own,
    seconds: { open: open.seconds, calibrate: calibrate.seconds, select: select.seconds },
  }
}

/** Resets the peak. The returned function gives the peak since then. */
function startPhase(): () => { bytes: number; seconds: number } {
  // 5 resets the peak to the current resident size (proc(5)).
  writeFileSync('/proc/self/clear_refs', '5')
  const startedMs = performance.now()
  return () => ({ bytes: residentBytes('VmHWM'), seconds: (performance.now() - startedMs) / 1000 })
}

function residentBytes(field: 'VmRSS' | 'VmHWM'): number {
  const found = new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(readFileSync('/proc/self/status', 'utf8'))
  return Number(found?.[1]) * 1024
}
