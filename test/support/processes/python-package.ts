import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { CACHE_DIR } from '../models/default-model.ts'

const run = promisify(execFile)
const PYTHON = process.platform === 'win32' ? 'python' : 'python3'

/** The system's Python with one package and its dependencies. */
export interface PythonPackage {
  /**
   * Runs Python with these arguments.
   *
   * @returns its output and its exit code
   */
  run(args: string[], options?: PythonOptions): Promise<{ stdout: string; stderr: string; exitCode: number }>
}

interface PythonOptions {
  cwd?: string
  env?: Record<string, string>
  /** Folders with further modules. */
  modules?: string[]
  timeoutMs?: number
}

/**
 * Installs a package once, in a folder beside the cached models. Needs Python and pip.
 *
 * @param dependencies requirements to install instead of those that the package declares
 */
export async function pythonPackage(
  name: string,
  version: string,
  dependencies?: readonly string[],
): Promise<PythonPackage> {
  const home = join(CACHE_DIR, `conformance-${name}-${version}`)
  // The name by which Hypothesis knows packages. Of other modules it collects the constants, seconds of each run of Schemathesis.
  const folder = join(home, 'site-packages')
  if (!existsSync(folder)) {
    await mkdir(home, { recursive: true })
    await install(`${name}==${version}`, dependencies, folder)
  }
  return {
    async run(args, { cwd, env, modules = [], timeoutMs = 600_000 } = {}) {
      const path = [folder, ...modules].join(process.platform === 'win32' ? ';' : ':')
      const python = {
        PYTHONPATH: path,
        PYTHONIOENCODING: 'utf-8',
        // Set to nothing: what is compiled is stored, also where an environment keeps Python from it.
        PYTHONDONTWRITEBYTECODE: '',
        // The services are on this machine. Without it, `requests` searches the environment for proxies at each request.
        NO_PROXY: '127.0.0.1',
      }
      const options = {
        cwd,
        env: { ...process.env, ...python, ...env },
        timeout: timeoutMs,
        maxBuffer: 64 * 1024 * 1024,
      }
      try {
        return { ...(await run(PYTHON, args, options)), exitCode: 0 }
      } catch (thrown) {
        const { code, stdout, stderr } = thrown as { code?: unknown; stdout?: string; stderr?: string }
        // Not a number: it could not be started, or it was killed after the timeout.
        if (typeof code !== 'number') throw thrown
        return { stdout: stdout ?? '', stderr: stderr ?? '', exitCode: code }
      }
    },
  }
}

async function install(
  requirement: string,
  dependencies: readonly string[] | undefined,
  folder: string,
): Promise<void> {
  const made = `${folder}.${process.pid}`
  const pip = ['-m', 'pip', 'install', '--quiet', '--no-input', '--disable-pip-version-check', '--no-compile']
  try {
    const into = [...pip, '--only-binary', ':all:', '--target', made]
    await run(PYTHON, [...into, ...(dependencies ? ['--no-deps'] : []), requirement])
    if (dependencies) await run(PYTHON, [...into, ...dependencies])
    await rename(made, folder)
  } finally {
    await rm(made, { recursive: true, force: true })
  }
}
