import { relative } from 'node:path'
import type { Reporter, TestModule } from 'vitest/node'
import { ROOT } from '../toolchain/toolchain.mjs'

/** How many files are printed. */
const SHOWN = 10

/** Prints the test files that took longest: their tests and hooks, imports and setup. */
export default class SlowestFiles implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const timed = modules.map((testModule) => {
      const { collectDuration, setupDuration, duration } = testModule.diagnostic()
      const name = `${testModule.project.name} ${relative(ROOT, testModule.moduleId)}`
      return { name, durationMs: collectDuration + setupDuration + duration }
    })
    process.stdout.write(slowestLines(timed).join(''))
  }
}

/** The lines that name the slowest of these files, the slowest first; none without a file. */
export function slowestLines(files: readonly { name: string; durationMs: number }[]): string[] {
  const slowest = files.toSorted((one, other) => other.durationMs - one.durationMs).slice(0, SHOWN)
  if (slowest.length === 0) return []
  const lines = slowest.map(
    ({ name, durationMs }) => `${(durationMs / 1000).toFixed(1).padStart(8)} s  ${name}\n`,
  )
  return ['\nSlowest files:\n', ...lines]
}
