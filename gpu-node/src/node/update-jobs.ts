import type { MaskEvaluator } from '../serving/control/mask-evaluator.ts'
import { createJobWork } from '../serving/control/node-job-work.ts'
import { openJobRunner, type JobRunner } from '../serving/control/node-jobs.ts'
import { createGpuReservation } from '../serving/control/reserve-gpu.ts'
import { createStatisticsExchange } from '../serving/control/statistics-exchange.ts'
import { createTrafficWatch } from '../serving/control/traffic-watch.ts'
import type { NodeFoundation } from './foundation.ts'
import type { ServedWeights } from './served-weights.ts'

/** Parts of {@link openUpdateJobs}. */
export interface UpdateJobsDeps extends NodeFoundation {
  weights: ServedWeights
  evaluator: MaskEvaluator
  /** Called when a job changed state. */
  onChange: () => void
}

/**
 * Opens the runner of the node's jobs for updates: calibration and evaluation, beside the requests that it serves. Jobs start when
 * the gateway lists them.
 */
export function openUpdateJobs(deps: UpdateJobsDeps): Promise<JobRunner> {
  const { settings, model, gateway, files, memory, log } = deps
  const { home, threads } = settings
  const { engine, swap } = deps.weights
  const requests = () => engine.load().running + engine.load().waiting
  const work = createJobWork({
    home,
    model: deps.reference,
    masks: files.masks,
    removeUnusedMasks: () => files.removeUnusedMasks(),
    datasets: files.datasets,
    evaluator: deps.evaluator,
    statistics: createStatisticsExchange({ home, model, gateway, log }),
    traffic: createTrafficWatch(requests),
    threads,
    gpu: memory.updateGpu,
    reserveGpu: createGpuReservation(model.config, memory.updates, swap),
    log,
  })
  return openJobRunner({ home, work, log, observer: deps.telemetry.jobs, onChange: deps.onChange })
}
