import { join } from 'node:path'
import { defineConfig } from 'vitest/config'
import { SlowestFirst } from './test/support/harness/slowest-first.ts'
import { WORKERS } from './test/support/harness/workers.ts'

/** Generous, because a test is slow when it shares its processors: a limit ends only what hangs. */
const polling = { poll: { timeout: 60_000 } }
const unitLimits = { testTimeout: 180_000, hookTimeout: 180_000, expect: polling }
/** Those of tests of whole services, which wait for other processes. */
const serviceLimits = { testTimeout: 900_000, hookTimeout: 600_000, expect: { poll: { timeout: 300_000 } } }
/** These projects share one queue of files: e2e files mostly wait for timers and processes, unit files compute. */
const oneQueue = { maxWorkers: WORKERS, sequence: { groupOrder: 2 } }
/** Unit test files share processes, because most run shorter than a process takes to start. These need their own. */
const OWN_PROCESS = [
  // Mocks a module, which the tests before it may have loaded already.
  'test/gpu-node/platform/process-lock.test.ts',
  // Measure how much the memory of their process grows.
  'test/gpu-node/serving/backends/sparse/{sparse-backend,swap-fuzz}.test.ts',
  'test/gpu-node/serving/grammar/grammar-compiler.test.ts',
  'test/gpu-node/serving/server/generation/waiting-choices.test.ts',
]
/** Conformance tests that start a service of their own. */
const OWN_SERVICE = ['test/conformance/{schemathesis,openai-errors,lm-eval}.test.ts']

export default defineConfig({
  test: {
    sequence: { sequencer: SlowestFirst },
    // Tests start some hundred Node processes, and half of the start of each is compiling TypeScript and Wrangler.
    env: { NODE_COMPILE_CACHE: join(import.meta.dirname, 'node_modules', '.cache', 'copal-tests') },
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/{shared,gpu-node,dashboard,infra,docs}/**/*.test.ts'],
          exclude: OWN_PROCESS,
          isolate: false,
          ...unitLimits,
          ...oneQueue,
        },
      },
      {
        test: {
          name: 'unit-own-process',
          include: OWN_PROCESS,
          ...unitLimits,
          ...oneQueue,
        },
      },
      './test/gateway/vitest.config.ts',
      './test/gateway/vitest.pure.config.ts',
      {
        test: {
          // One service for all files, which would queue for its node if they ran at once.
          name: 'conformance',
          include: ['test/conformance/**/*.test.ts'],
          exclude: OWN_SERVICE,
          globalSetup: ['test/conformance/setup.ts'],
          fileParallelism: false,
          sequence: { groupOrder: 1 },
          ...serviceLimits,
        },
      },
      {
        test: {
          name: 'conformance-own-service',
          include: OWN_SERVICE,
          ...serviceLimits,
          ...oneQueue,
        },
      },
      {
        test: {
          name: 'e2e',
          include: ['test/e2e/**/*.test.ts'],
          ...serviceLimits,
          ...oneQueue,
        },
      },
    ],
  },
})
