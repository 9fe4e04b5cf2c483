import { relative } from 'node:path'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

/** The files that take longest, in seconds on two cores. A file that is not listed here is short. */
export const SLOW_FILES: Readonly<Record<string, number>> = {
  'test/gpu-node/gpu/software-cuda.test.ts': 215,
  'test/e2e/service.test.ts': 222,
  'test/e2e/service-faults.test.ts': 107,
  'test/e2e/faults.test.ts': 104,
  'test/gpu-node/native/build-native.test.ts': 103,
  'test/conformance/schemathesis.test.ts': 95,
  'test/e2e/sparse.test.ts': 87,
  'test/e2e/dashboard.test.ts': 67,
  'test/gpu-node/bench/gateways/bench.test.ts': 51,
  'test/gpu-node/lab/run/run-lab.test.ts': 47,
  'test/e2e/sparse-faults.test.ts': 46,
  'test/e2e/trials.test.ts': 34,
  'test/gpu-node/node/masks.test.ts': 33,
  'test/e2e/gateway-faults.test.ts': 33,
  'test/infra/local/start/start.test.ts': 32,
  'test/e2e/gpu.test.ts': 30,
  'test/e2e/golden.test.ts': 29,
  'test/gpu-node/gpu/addon.test.ts': 28,
  'test/gpu-node/pruning/runs/run-calibration.test.ts': 24,
  'test/conformance/cuda-source.test.ts': 21,
  'test/gpu-node/serving/control/statistics-exchange.test.ts': 20,
  'test/gpu-node/serving/backends/contract.test.ts': 20,
  'test/conformance/openai-errors.test.ts': 19,
  'test/gpu-node/node/kills.test.ts': 18,
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
