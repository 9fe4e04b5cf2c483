import { relative } from 'node:path'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

/** The files that take longest, in seconds on two cores. A file that is not listed here is short. */
export const SLOW_FILES: Readonly<Record<string, number>> = {
  'test/e2e/service.test.ts': 500,
  'test/conformance/schemathesis.test.ts': 300,
  'test/e2e/service-faults.test.ts': 190,
  'test/e2e/faults.test.ts': 140,
  'test/gpu-node/native/build-native.test.ts': 137,
  'test/e2e/sparse.test.ts': 85,
  'test/e2e/gateway-faults.test.ts': 85,
  'test/e2e/trials.test.ts': 78,
  'test/e2e/dashboard.test.ts': 70,
  'test/infra/local/start/start.test.ts': 70,
  'test/gpu-node/bench/gateways/bench.test.ts': 68,
  'test/gpu-node/lab/run/run-lab.test.ts': 65,
  'test/e2e/sparse-faults.test.ts': 60,
  'test/e2e/own-mask.test.ts': 53,
  'test/e2e/prefix.test.ts': 53,
  'test/e2e/observability.test.ts': 48,
  'test/e2e/golden.test.ts': 45,
  'test/conformance/openai-errors.test.ts': 45,
  'test/e2e/keys.test.ts': 41,
  'test/gpu-node/pruning/runs/cost-at-scale.test.ts': 35,
  'test/gpu-node/node/masks.test.ts': 31,
  'test/gpu-node/pruning/runs/run-calibration.test.ts': 24,
  'test/gpu-node/pruning/selection/select-to-file.test.ts': 20,
  'test/gpu-node/serving/control/statistics-exchange.test.ts': 18,
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
