import { execFile } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

/** Writes an archive as pip wants wheels: `argv` is target, package, version, then pairs of name and file. */
const WRITE_WHEEL = `
import sys, zipfile
target, name, version, *files = sys.argv[1:]
info = f'{name}-{version}.dist-info'
with zipfile.ZipFile(target, 'w', zipfile.ZIP_DEFLATED) as wheel:
    for inside, path in zip(files[::2], files[1::2]):
        wheel.write(path, inside)
    wheel.writestr(f'{info}/METADATA', f'Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n')
    wheel.writestr(f'{info}/WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')
    wheel.writestr(f'{info}/RECORD', '')
`

/**
 * Makes a wheel that pip finds in `dir` (`PIP_FIND_LINKS`).
 *
 * @param files path on this machine by name inside the wheel
 */
export async function writeWheel(
  dir: string,
  name: string,
  version: string,
  files: Readonly<Record<string, string>>,
): Promise<void> {
  await mkdir(dir, { recursive: true })
  const script = join(dir, 'write-wheel.py')
  await writeFile(script, WRITE_WHEEL)
  const inside = name.replaceAll('-', '_')
  const target = join(dir, `${inside}-${version}-py3-none-any.whl`)
  await promisify(execFile)('python3', [script, target, inside, version, ...Object.entries(files).flat()])
}
