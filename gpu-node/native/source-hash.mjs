/** The hash of an addon's sources. Plain JavaScript, because the build runs before anything is installed. */
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join, relative, sep } from 'node:path'

/** The files and folders of a crate that go into the binary; tests and types do not. */
const SOURCES = ['Cargo.toml', 'Cargo.lock', 'build.rs', 'src']

/**
 * Returns the SHA-256 over the names and contents of the native addon's sources. The build writes it into the binary,
 * which returns it from `sourceHash()`.
 *
 * @param {string} workspace the folder with the Rust workspace
 * @returns {string} hexadecimal
 */
export function sourceHash(workspace) {
  return hashCrates(workspace, ['.', 'addon'])
}

/**
 * @param {string} workspace the folder with the Rust workspace
 * @param {string[]} crates folders of crates, relative to it
 * @returns {string} hexadecimal
 */
export function hashCrates(workspace, crates) {
  const hash = createHash('sha256')
  const roots = crates.flatMap((crate) => SOURCES.map((name) => join(workspace, crate, name)))
  for (const path of roots.flatMap(filesIn)) {
    const content = readFileSync(path)
    hash.update(`${relative(workspace, path).split(sep).join('/')} ${content.length}\n`).update(content)
  }
  return hash.digest('hex')
}

/** A file, the files below a folder, or nothing. */
function filesIn(path) {
  try {
    return readdirSync(path, { withFileTypes: true })
      .toSorted((a, b) => (a.name < b.name ? -1 : 1))
      .flatMap((entry) => filesIn(join(path, entry.name)))
  } catch (error) {
    if (error.code === 'ENOTDIR') return [path]
    if (error.code === 'ENOENT') return []
    throw error
  }
}
