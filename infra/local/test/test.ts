/** `npm test [-- vitest arguments]`: every test on the real parts, closed by one line that counts them. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { createProgressBar } from '../../../gpu-node/cli/output/progress-bar.ts'
import { cacheFolder } from '../../../gpu-node/src/platform/cache-folder.ts'
import { openModel } from '../../../gpu-node/src/model/open-model.ts'
import { DEFAULT_MODEL } from '../../../gpu-node/src/model/source/resolve-model.ts'
import { offerGpu } from '../build-gpu.mjs'
import { offerNative } from '../build-native.mjs'
import { ensureDashboard } from '../dashboard/ensure-dashboard.ts'
import { drawModelProgress } from '../start/model-progress.ts'
import { closingLine, type TestReport } from './test-report.ts'
import { ROOT } from '../toolchain/toolchain.mjs'
import { hasVulkanDriver } from './vulkan-driver.ts'

/** Lines to hide: those that workerd writes when a connection breaks (fault tests break many), and the note on our report. */
const NOISE =
  /^(uncaught exception; |exception = |stack: |console warning; message = Called \.text\(\)|JSON report written)/

const dashboard = ensureDashboard()
if (dashboard.error !== undefined)
  process.stderr.write(`The dashboard cannot be built:\n${dashboard.error}\n`)
const print = (line: string) => void process.stderr.write(`${line}\n`)
// Built before the tests, because otherwise each test that needs it would build it. A failure is printed here.
const [native] = await Promise.all([offerNative(print), fetchModel()])
// The addon for a GPU is built beside the tests, if there is a driver to test it with: those that need it wait for it.
const abandoned = new AbortController()
const gpu = hasVulkanDriver(process.env) ? offerGpu(print, { signal: abandoned.signal }) : undefined
const scratch = mkdtempSync(join(tmpdir(), 'copal-test-'))
const reportPath = join(scratch, 'report.json')
const vitest = spawn(
  process.execPath,
  [
    join(ROOT, 'node_modules', 'vitest', 'vitest.mjs'),
    'run',
    '--reporter=default',
    '--reporter=json',
    `--reporter=${join(import.meta.dirname, 'slowest-files.ts')}`,
    `--outputFile.json=${reportPath}`,
    ...process.argv.slice(2),
  ],
  {
    cwd: ROOT,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...(process.stdout.isTTY ? { FORCE_COLOR: '1' } : {}) },
  },
)
const copied = Promise.all([
  copyLines(vitest.stdout, process.stdout),
  copyLines(vitest.stderr, process.stderr),
])
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => vitest.kill(signal))
if (process.connected) process.once('disconnect', () => vitest.kill())

const [exitCode] = (await once(vitest, 'exit')) as [number | null]
abandoned.abort()
await Promise.all([copied, gpu])
if (native === 'no-cargo')
  process.stdout.write('\nSkipped is what needs the native addon: there is no cargo here, which builds it.\n')
process.stdout.write(`\n${closingLine(readReport(), exitCode)}\n`)
rmSync(scratch, { recursive: true, force: true })
process.exitCode = exitCode ?? 1
if (process.connected) process.disconnect()

/** Once for all tests, with a bar. Without it the tests that need it fail, and say why. */
async function fetchModel(): Promise<void> {
  const bar = createProgressBar(process.stderr)
  const cacheDir = cacheFolder(process.env)
  try {
    await openModel(DEFAULT_MODEL, { cacheDir, onProgress: (progress) => drawModelProgress(bar, progress) })
    bar.end()
  } catch (error) {
    bar.end(`The default model cannot be opened: ${error instanceof Error ? error.message : String(error)}`)
  }
}

async function copyLines(from: NodeJS.ReadableStream, to: NodeJS.WritableStream): Promise<void> {
  for await (const line of createInterface({ input: from })) if (!NOISE.test(line)) to.write(`${line}\n`)
}

function readReport(): TestReport | undefined {
  try {
    return JSON.parse(readFileSync(reportPath, 'utf8')) as TestReport
  } catch {
    return undefined
  }
}
