/** Returns the program, and its first arguments, that run npm. Plain JavaScript, because it runs before anything is installed. */
export function npmCommand(env, platform) {
  // Under `npm start` and `npx` this variable names the running npm; otherwise the npm on the PATH is used.
  const cli = env.npm_execpath
  if (cli !== undefined && /npm-cli\.[cm]?js$/.test(cli)) return [process.execPath, cli]
  // There npm is a batch file, which Node starts only by a shell since batch files can execute parts of their arguments.
  if (platform === 'win32') return [env.ComSpec ?? 'cmd.exe', '/d', '/s', '/c', 'npm']
  return ['npm']
}
