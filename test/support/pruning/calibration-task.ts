import { join } from 'node:path'
import type { SelectionSpec } from '@copal/shared/wire/selection.ts'
import type { CalibrationTask } from '../../../gpu-node/src/pruning/runs/calibration-task.ts'

/** The parts of a task that differ from those of {@link calibrationTask}. */
export type CalibrationTaskOptions = Partial<CalibrationTask> & { method?: SelectionSpec['method'] }

let counter = 0

/**
 * Returns a task without datasets on a small model.
 *
 * @param dir the folder of its files; each task has statistics of its own
 */
export function calibrationTask(dir: string, options: CalibrationTaskOptions = {}): CalibrationTask {
  const { method, ...rest } = options
  return {
    datasets: [],
    accumulated: [],
    samples: 5,
    length: 32,
    seed: 7,
    selection: { method: method ?? 'copal', pattern: '0.5', scope: 'row' },
    parentMaskPath: null,
    created: '2026-11-25T00:00:00.000Z',
    workDir: join(dir, 'masks'),
    statisticsDir: join(dir, `statistics-${counter++}`),
    ...rest,
  }
}
