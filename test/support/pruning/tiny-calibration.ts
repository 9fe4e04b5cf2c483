import { join } from 'node:path'
import type { CalibrationOptions } from '../../../gpu-node/src/pruning/runs/run-calibration.ts'
import type { TinyModel } from '../models/tiny-model.ts'

/** Options of a calibration of the tiny model on one dataset, whose files are in a folder of that model. */
export function tinyCalibration(
  { dir, model }: Pick<TinyModel, 'dir' | 'model'>,
  dataset: CalibrationOptions['datasets'][number],
  folder: string,
): CalibrationOptions {
  return {
    model: {
      spec: join(dir, 'model'),
      cacheDir: join(dir, 'cache'),
      id: 'tiny',
      baseSha256: model.master.baseSha256,
    },
    threads: 1,
    datasets: [dataset],
    accumulated: [],
    samples: 8,
    length: 256,
    seed: 1,
    selection: { method: 'copal', pattern: '0.5', scope: 'row' },
    parentMaskPath: null,
    created: '2026-11-25T00:00:00.000Z',
    workDir: join(dir, folder, 'masks'),
    statisticsDir: join(dir, folder, 'statistics'),
  }
}
