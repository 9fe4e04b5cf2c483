import { availableParallelism } from 'node:os'
import { defineConfig } from 'vitest/config'

/** A second, which is usual, is short on a busy machine. */
const polling = { poll: { timeout: 20_000 } }

// The groups run one after another: what is quick first, the real model alone on the machine last.
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/{shared,gpu-node,infra,docs}/**/*.test.ts'],
          testTimeout: 60_000,
          expect: polling,
          maxWorkers: Math.max(2, availableParallelism() - 1),
          sequence: { groupOrder: 1 },
        },
      },
      './test/gateway/vitest.config.ts',
      {
        test: {
          name: 'conformance',
          include: ['test/conformance/**/*.test.ts'],
          globalSetup: ['test/conformance/setup.ts'],
          fileParallelism: false,
          sequence: { groupOrder: 3 },
          testTimeout: 60_000,
          expect: polling,
        },
      },
      {
        test: {
          name: 'e2e',
          include: ['test/e2e/**/*.test.ts'],
          fileParallelism: false,
          sequence: { groupOrder: 4 },
          testTimeout: 900_000,
          expect: polling,
          hookTimeout: 600_000,
        },
      },
    ],
  },
})
