import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'

const PROGRAM = new URL('../../../gpu-node/cli/program.ts', import.meta.url).href

/** Prints the URL of every module that `copal <args>` loads. */
const SCRIPT = `
  import { registerHooks } from 'node:module'
  const urls = []
  registerHooks({ load: (url, context, next) => (urls.push(url), next(url, context)) })
  const { runCommand } = await import(${JSON.stringify(PROGRAM)})
  const sink = { write: () => true }
  const surroundings = { env: {}, cwd: '/', root: '/', stdin: [], stdout: sink, stderr: sink }
  await runCommand(process.argv.slice(1), { ...surroundings, signal: new AbortController().signal })
  console.log(JSON.stringify(urls))
`

function modulesOf(...args: string[]): string[] {
  const output = execFileSync(process.execPath, ['--input-type=module', '-e', SCRIPT, '--', ...args], {
    cwd: fileURLToPath(new URL('../../..', import.meta.url)),
    encoding: 'utf8',
  })
  return JSON.parse(output) as string[]
}

test('commands load the laboratory, plotting and the model runtime only when they need them', () => {
  const heavy = /gpu-node\/lab\/|node_modules\/(vega|@resvg|onnxruntime)/
  expect(modulesOf('status').filter((url) => heavy.test(url))).toEqual([])
  const forHelp = modulesOf('lab', 'run', '--help')
  expect(forHelp.some((url) => url.includes('gpu-node/lab/'))).toBe(true)
  expect(forHelp.filter((url) => /node_modules\/(vega|@resvg|onnxruntime)/.test(url))).toEqual([])
})
