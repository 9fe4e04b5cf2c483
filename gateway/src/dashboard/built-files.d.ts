/** The files of the dashboard, as `gateway/dashboard/build.mjs` writes them. */
declare module '*/dashboard/built-files.mjs' {
  /** One file: `index.html`, or one whose name contains the hash of its content. */
  export interface BuiltFile {
    name: string
    /** Part of the hash of the content. */
    etag: string
    /** Text; all files are. */
    body: string
  }
  export const files: readonly BuiltFile[]
}
