import { relative } from 'node:path'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

/** The files that take longest, in seconds on two cores. A file that is not listed here is short. */
export const SLOW_FILES: Readonly<Record<string, number>> = {
  'test/e2e/service.test.ts': 240,
  'test/gpu-node/native/build-native.test.ts': 150,
  'test/e2e/faults.test.ts': 140,
  'test/e2e/gateway-faults.test.ts': 120,
  'test/conformance/schemathesis.test.ts': 111,
  'test/e2e/sparse-faults.test.ts': 100,
  'test/e2e/service-faults.test.ts': 90,
  'test/gpu-node/lab/run/run-lab.test.ts': 90,
  'test/infra/local/start/start.test.ts': 84,
  'test/e2e/sparse.test.ts': 80,
  'test/gpu-node/bench/gateways/bench.test.ts': 68,
  'test/gpu-node/pruning/runs/cost-at-scale.test.ts': 55,
  'test/conformance/openai-errors.test.ts': 49,
  'test/e2e/prefix.test.ts': 40,
  'test/e2e/golden.test.ts': 40,
  'test/e2e/trials.test.ts': 35,
  'test/gpu-node/node/masks.test.ts': 33,
  'test/gpu-node/lab/run/full-disk-run.test.ts': 32,
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
