/** `npm run bench`: runs a benchmark; `npm run bench -- --help` lists them. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { CommanderError } from 'commander'
import { createBenchProgram } from './program.ts'
import { createWorkbench } from './commands/workbench.ts'

const home = mkdtempSync(join(tmpdir(), 'copal-bench-'))
const args = process.argv.slice(2)
try {
  const program = createBenchProgram(createWorkbench(home))
  await program.parseAsync(args.length === 0 ? ['service'] : args, { from: 'user' })
} catch (error) {
  if (!(error instanceof CommanderError)) process.stderr.write(`copal: ${(error as Error).message}\n`)
  process.exitCode = error instanceof CommanderError ? error.exitCode : 1
} finally {
  rmSync(home, { recursive: true, force: true })
}
if (process.connected) process.disconnect()
