const COMMON = ['test', '--profile', 'bench', '--locked', '--no-default-features', '--quiet']

/**
 * Options of `cargo` for tests that use the crates which the addons were built from. With the addons' features these are not
 * compiled again. A test program has no Node to link with, which the linker of Linux allows where nothing calls it.
 */
export const RUST_TESTS = [
  ...COMMON,
  ...(process.platform === 'linux' ? ['--features', 'copal-native/engine-binding'] : []),
]

/** The same for the unit tests of the processor's crate: they compile all kernels again and compute little. */
export const RUST_UNIT_TESTS = [
  ...COMMON,
  '--lib',
  ...['opt-level=0', 'debug-assertions=true', 'overflow-checks=true'].flatMap((setting) => [
    '--config',
    `profile.bench.package.copal-native.${setting}`,
  ]),
]
