import { execFileSync } from 'node:child_process'
import { getPriority } from 'node:os'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { BACKGROUND_NICENESS } from '../../../gpu-node/src/platform/background-priority.ts'

const MODULE = fileURLToPath(
  new URL('../../../gpu-node/src/platform/background-priority.ts', import.meta.url),
)
const LOWEST = 19

test.each([0, 3, 10])(
  'a process started with a niceness %i above this one lowers its priority, and never raises it',
  (below) => {
    const program = `
    const { enterBackground } = await import(${JSON.stringify(MODULE)})
    const { getPriority } = await import('node:os')
    enterBackground()
    console.log(getPriority())`
    const node = [process.execPath, '--input-type=module', '--eval', program]
    const niceness = Number(execFileSync('nice', ['-n', String(below), ...node], { encoding: 'utf8' }))
    const started = Math.min(LOWEST, getPriority() + below)
    expect(niceness).toBe(Math.max(started, BACKGROUND_NICENESS))
  },
)
