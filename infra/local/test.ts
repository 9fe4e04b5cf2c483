/** `npm test [-- vitest arguments]`: every test on the real parts, closed by one line that counts them. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { closingLine, type TestReport } from './test-report.ts'
import { ROOT } from './toolchain.mjs'

const scratch = mkdtempSync(join(tmpdir(), 'copal-test-'))
const reportPath = join(scratch, 'report.json')
const vitest = spawn(
  process.execPath,
  [
    join(ROOT, 'node_modules', 'vitest', 'vitest.mjs'),
    'run',
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${reportPath}`,
    ...process.argv.slice(2),
  ],
  { cwd: ROOT, stdio: ['ignore', 'inherit', 'inherit'] },
)
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => vitest.kill(signal))
if (process.connected) process.once('disconnect', () => vitest.kill())

const [exitCode] = (await once(vitest, 'exit')) as [number | null]
process.stdout.write(`\n${closingLine(readReport(), exitCode)}\n`)
rmSync(scratch, { recursive: true, force: true })
process.exitCode = exitCode ?? 1
if (process.connected) process.disconnect()

function readReport(): TestReport | undefined {
  try {
    return JSON.parse(readFileSync(reportPath, 'utf8')) as TestReport
  } catch {
    return undefined
  }
}
