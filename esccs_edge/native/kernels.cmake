# preprocess.fatbin: the fused preprocessing as CUDA kernels, compiled by ${NVCC}.
#   ESCCS_CUDA_ARCHITECTURES  native: the GPUs of this machine and nothing else, or all where none is seen
#                             all: every GPU that is served, for wheels; 87, "86;89": these, as compute capabilities
set(ESCCS_CUDA_ARCHITECTURES "native" CACHE STRING "native, all, or compute capabilities to compile for")
set(esccs_served 75 80 86 87 89 90 100 110 120)

# Compute capabilities of the GPUs of this machine, such as "86;89"; empty where none is seen. A Jetson's
# nvidia-smi may not know them: the toolkit's own query asks the driver.
function(esccs_gpus_here found)
  execute_process(COMMAND nvidia-smi --query-gpu=compute_cap --format=csv,noheader
                  OUTPUT_VARIABLE said ERROR_QUIET RESULT_VARIABLE failed TIMEOUT 60)
  string(REGEX MATCHALL "[0-9]+\\.[0-9]" capabilities "${said}")
  if(failed OR NOT capabilities)
    get_filename_component(toolkit "${NVCC}" DIRECTORY)
    execute_process(COMMAND "${toolkit}/__nvcc_device_query"
                    OUTPUT_VARIABLE said ERROR_QUIET RESULT_VARIABLE failed TIMEOUT 60)
    string(REGEX MATCHALL "[0-9]+" capabilities "${said}")
    if(failed)
      set(capabilities)
    endif()
  endif()
  string(REPLACE "." "" capabilities "${capabilities}")
  list(REMOVE_DUPLICATES capabilities)
  set(${found} "${capabilities}" PARENT_SCOPE)
endfunction()

# Options of nvcc that compile for what ESCCS_CUDA_ARCHITECTURES asks for, of what this nvcc knows.
function(esccs_gencode found)
  execute_process(COMMAND "${NVCC}" --list-gpu-arch OUTPUT_VARIABLE supported)
  set(wanted ${ESCCS_CUDA_ARCHITECTURES})
  set(for_others TRUE)
  if(wanted STREQUAL "native")
    esccs_gpus_here(wanted)
    set(for_others FALSE)
    foreach(arch IN LISTS wanted)
      if(NOT supported MATCHES "compute_${arch}[^0-9]")
        message(WARNING "esccs-edge: ${NVCC} knows no GPU of compute capability ${arch}, compiling for all it knows")
        set(wanted)
      endif()
    endforeach()
    if(NOT wanted)
      set(wanted all)
    endif()
  endif()
  if(wanted STREQUAL "all")
    set(wanted ${esccs_served})
    set(for_others TRUE)
  endif()
  foreach(arch IN LISTS wanted)
    if(supported MATCHES "compute_${arch}[^0-9]")
      list(APPEND gencode "-gencode=arch=compute_${arch},code=sm_${arch}")
      set(newest ${arch})
    endif()
  endforeach()
  if(NOT gencode)
    message(FATAL_ERROR "esccs-edge: ${NVCC} compiles for none of ESCCS_CUDA_ARCHITECTURES=${ESCCS_CUDA_ARCHITECTURES}")
  endif()
  if(for_others)
    # PTX for GPUs that are not in the list: a driver compiles only PTX that is as old as its GPU or older.
    foreach(arch IN ITEMS 80 90 ${newest})
      if(supported MATCHES "compute_${arch}[^0-9]" AND NOT arch GREATER newest)
        list(APPEND ptx "-gencode=arch=compute_${arch},code=compute_${arch}")
      endif()
    endforeach()
    list(REMOVE_DUPLICATES ptx)
    list(APPEND gencode ${ptx})
  endif()
  set(${found} "${gencode}" PARENT_SCOPE)
endfunction()

esccs_gencode(esccs_options)
message(STATUS "esccs-edge: CUDA kernels with ${esccs_options}")
set(esccs_fatbin "${CMAKE_CURRENT_BINARY_DIR}/preprocess.fatbin")
set(esccs_sources "${CMAKE_CURRENT_LIST_DIR}/preprocess_cuda.cu"
  "${CMAKE_CURRENT_LIST_DIR}/patch.h" "${CMAKE_CURRENT_LIST_DIR}/pixel.h")
add_custom_command(
  OUTPUT "${esccs_fatbin}"
  COMMAND "${NVCC}" -fatbin -O3 -std=c++17 --fmad=false --threads 0 -Xfatbin -compress-all ${esccs_options}
          -o "${esccs_fatbin}" "${CMAKE_CURRENT_LIST_DIR}/preprocess_cuda.cu"
  DEPENDS ${esccs_sources}
  VERBATIM)
add_custom_target(preprocess_cuda ALL DEPENDS "${esccs_fatbin}")
install(FILES "${esccs_fatbin}" DESTINATION esccs_edge)
