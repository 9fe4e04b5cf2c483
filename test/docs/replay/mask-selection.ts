/** Selects masks of the default model and scores texts under them, for the scripts that write replayed losses. */
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { DenseModel } from '../../../gpu-node/src/model/master/dense-model.ts'
import { evaluateWindows } from '../../../gpu-node/src/pruning/evaluation/evaluate-windows.ts'
import { calibrateAndSelect } from '../../../gpu-node/src/pruning/runs/calibrate-and-select.ts'
import type { DatasetFile } from '../../../gpu-node/src/pruning/runs/calibration-task.ts'
import type { TextWindows } from '../../../gpu-node/src/pruning/evaluation/text-windows.ts'
import type { Backend } from '../../../gpu-node/src/serving/contract/backend.ts'
import { writeDataset } from '../../support/pruning/calibration-datasets.ts'

/** The checkout. */
export const ROOT = resolve(import.meta.dirname, '../../..')

/** Writes the calibration texts of the domains `speech` and `novel` as datasets in `dir`. */
export function writeDomainDatasets(dir: string): Promise<DatasetFile[]> {
  return Promise.all(
    ['speech', 'novel'].map((domain) =>
      writeDataset(dir, domain, [
        readFileSync(join(ROOT, `test/fixtures/text/${domain}.calibration.txt`), 'utf8'),
      ]),
    ),
  )
}

/**
 * Selects a mask that keeps half of the weights of each row. Statistics that are already in the folder are used again.
 *
 * @param options `work` is the folder of the statistics and the mask; `weights` are those of the domains, equal by default
 * @returns the path of the mask
 */
export async function selectMask(
  model: DenseModel,
  options: {
    work: string
    datasets: DatasetFile[]
    method: string
    samples: number
    weights?: Record<string, number>
    print?: (message: string) => void
  },
): Promise<string> {
  const { work, datasets, method, samples, weights = {}, print = () => {} } = options
  const { maskPath } = await calibrateAndSelect(
    model,
    {
      datasets,
      accumulated: [],
      samples,
      length: 512,
      seed: 0,
      selection: { method, pattern: '0.5', scope: 'row', weights },
      parentMaskPath: null,
      created: '2026-11-28T00:00:00.000Z',
      workDir: work,
      statisticsDir: join(work, 'statistics'),
    },
    2,
    ({ message }) => print(message),
  )
  return maskPath
}

/**
 * Scores texts under masks, of which null is the dense weights.
 *
 * @returns the loss of each window by mask and text, in nats, with `digits` decimals
 */
export async function scoreTexts(
  backend: Backend,
  model: DenseModel,
  masks: Readonly<Record<string, string | null>>,
  texts: Readonly<Record<string, TextWindows>>,
  digits: number,
): Promise<Record<string, Record<string, number[]>>> {
  const names = Object.keys(texts)
  const losses: Record<string, Record<string, number[]>> = {}
  for (const [mask, maskPath] of Object.entries(masks)) {
    const own: Record<string, number[]> = {}
    losses[mask] = own
    let text = 0
    const weights = { model, version: maskPath === null ? 0 : -1, maskPath }
    for await (const { windowNll } of evaluateWindows(backend, weights, Object.values(texts)))
      own[names[text++] ?? ''] = windowNll.map((loss) => Number(loss.toFixed(digits)))
    process.stderr.write(`scored ${mask}\n`)
  }
  return losses
}
