// The integer types of AssemblyScript, as TypeScript sees them: the shared sources of this room run both
// ways.
declare type u8 = number;
declare type u32 = number;
declare type i32 = number;
declare type f64 = number;
