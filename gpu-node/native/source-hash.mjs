/** The hash of the addon's sources. Plain JavaScript, because the build runs before anything is installed. */
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join, relative, sep } from 'node:path'

/** The files and folders of the crate that go into the binary; tests and types do not. */
const SOURCES = ['Cargo.toml', 'Cargo.lock', 'build.rs', 'src']

/**
 * Returns the SHA-256 over the names and contents of the sources. The build writes it into the binary, which returns it
 * from `sourceHash()`.
 *
 * @param {string} crate the folder with `Cargo.toml`
 * @returns {string} hexadecimal
 */
export function sourceHash(crate) {
  const hash = createHash('sha256')
  for (const path of SOURCES.flatMap((name) => filesIn(join(crate, name)))) {
    const content = readFileSync(path)
    hash.update(`${relative(crate, path).split(sep).join('/')} ${content.length}\n`).update(content)
  }
  return hash.digest('hex')
}

function filesIn(path) {
  try {
    return readdirSync(path, { withFileTypes: true })
      .toSorted((a, b) => (a.name < b.name ? -1 : 1))
      .flatMap((entry) => filesIn(join(path, entry.name)))
  } catch (error) {
    if (error.code === 'ENOTDIR') return [path]
    throw error
  }
}
