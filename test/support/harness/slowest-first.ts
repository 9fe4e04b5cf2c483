import { relative } from 'node:path'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

/**
 * The files that take longest, in seconds on two cores; other files are shorter. None of the gateway is listed: its files follow each
 * other in few processes, and one that runs before the others would start a process for itself.
 */
export const SLOW_FILES: Readonly<Record<string, number>> = {
  'test/gpu-node/gpu/software-cuda.test.ts': 276,
  'test/e2e/service.test.ts': 186,
  'test/gpu-node/native/build-native.test.ts': 132,
  'test/e2e/service-faults.test.ts': 87,
  'test/e2e/faults.test.ts': 85,
  'test/conformance/schemathesis.test.ts': 70,
  'test/e2e/dashboard.test.ts': 63,
  'test/gpu-node/lab/run/run-lab.test.ts': 53,
  'test/e2e/sparse-faults.test.ts': 45,
  'test/e2e/gateway-faults.test.ts': 38,
  'test/e2e/sparse.test.ts': 34,
  'test/e2e/golden.test.ts': 34,
  'test/gpu-node/node/masks.test.ts': 31,
  'test/gpu-node/pruning/runs/run-calibration.test.ts': 31,
  'test/infra/local/start/start.test.ts': 30,
  'test/e2e/gpu.test.ts': 30,
  'test/gpu-node/bench/gateways/bench.test.ts': 29,
  'test/gpu-node/serving/backends/contract.test.ts': 27,
  'test/gpu-node/gpu/addon.test.ts': 25,
  'test/gpu-node/serving/control/statistics-exchange.test.ts': 24,
  'test/conformance/cuda-source.test.ts': 20,
  'test/e2e/trials.test.ts': 20,
  'test/e2e/prefix.test.ts': 20,
  'test/gpu-node/node/kills.test.ts': 19,
  'test/conformance/openai-errors.test.ts': 18,
  'test/gpu-node/node/start.test.ts': 18,
  'test/e2e/observability.test.ts': 17,
  'test/conformance/lm-eval.test.ts': 15,
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
