import { relative } from 'node:path'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

/** The files that take longest, in seconds on two cores. A file that is not listed here is short. */
export const SLOW_FILES: Readonly<Record<string, number>> = {
  'test/e2e/service.test.ts': 594,
  'test/conformance/schemathesis.test.ts': 170,
  'test/e2e/faults.test.ts': 151,
  'test/e2e/service-faults.test.ts': 130,
  'test/e2e/dashboard.test.ts': 112,
  'test/e2e/sparse.test.ts': 104,
  'test/gpu-node/native/build-native.test.ts': 66,
  'test/e2e/gateway-faults.test.ts': 62,
  'test/infra/local/start/start.test.ts': 56,
  'test/gpu-node/bench/gateways/bench.test.ts': 54,
  'test/e2e/trials.test.ts': 53,
  'test/gpu-node/lab/run/run-lab.test.ts': 52,
  'test/e2e/sparse-faults.test.ts': 49,
  'test/e2e/gpu.test.ts': 46,
  'test/gpu-node/serving/backends/contract.test.ts': 39,
  'test/gpu-node/gpu/addon.test.ts': 36,
  'test/e2e/golden.test.ts': 33,
  'test/gpu-node/node/masks.test.ts': 33,
  'test/gpu-node/pruning/runs/cost-at-scale.test.ts': 32,
  'test/gpu-node/serving/control/statistics-exchange.test.ts': 25,
  'test/gpu-node/pruning/runs/run-calibration.test.ts': 24,
  'test/conformance/openai-errors.test.ts': 20,
  'test/gpu-node/pruning/selection/select-to-file.test.ts': 20,
  'test/gateway/adaptation/updates/cancel-and-rollback.test.ts': 20,
  'test/gpu-node/node/kills.test.ts': 20,
}

/** Runs the slowest files first, so that none of them is still running alone at the end. */
export class SlowestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const secondsOf = ({ moduleId }: TestSpecification) =>
      SLOW_FILES[relative(import.meta.dirname, moduleId).replace(/^(\.\.\/)+/, 'test/')] ?? 0
    const sorted = await super.sort(files)
    return sorted.toSorted((one, other) => secondsOf(other) - secondsOf(one))
  }
}
