import { createHash } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { runCalibration } from '@copal/gpu-node/pruning/runs/run-calibration.ts'
import type { ModelReference } from '@copal/gpu-node/pruning/runs/pruning-child-protocol.ts'
import { line } from '../measurement/report.ts'

/** The mask that the benchmark made, and its lines for people. */
export interface CalibratedMask {
  lines: string[]
  maskPath: string
}

/** Calibrates `samples` × `length` tokens of `text` once, as a node does, and selects a 50 % mask. */
export async function benchCalibration(
  model: ModelReference,
  text: string,
  home: string,
  { samples, length }: { samples: number; length: number },
): Promise<CalibratedMask> {
  const dataset = Buffer.from(`${JSON.stringify({ text })}\n`)
  const path = join(home, 'dataset.jsonl')
  await mkdir(home, { recursive: true })
  await writeFile(path, dataset)
  const outcome = await runCalibration({
    model,
    datasets: [{ path, sha256: createHash('sha256').update(dataset).digest('hex'), domain: 'bench' }],
    accumulated: [],
    samples,
    length,
    seed: 0,
    selection: { method: 'continual-wanda+swaps', pattern: '0.5', scope: 'row' },
    parentMaskPath: null,
    created: '2026-01-01T00:00:00.000Z',
    workDir: join(home, 'masks'),
    statisticsDir: join(home, 'statistics'),
  })
  const tokens = outcome.tokens.reduce((sum, entry) => sum + entry.tokens, 0)
  return {
    lines: [
      line(
        `calibration, ${samples} × ${length} tokens`,
        `${((tokens * 1000) / outcome.calibrateMs).toFixed(0)} tokens/s (${(outcome.calibrateMs / 1000).toFixed(1)} s)`,
      ),
      line('selection of the mask with swaps, all linears', `${(outcome.selectMs / 1000).toFixed(1)} s`),
    ],
    maskPath: outcome.maskPath,
  }
}
